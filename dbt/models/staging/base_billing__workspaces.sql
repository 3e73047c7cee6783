with

{{ typed_rows('workspaces', []) }}

select * from recorded

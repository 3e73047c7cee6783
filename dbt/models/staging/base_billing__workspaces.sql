{{ config(materialized='incremental', incremental_strategy='append') }}

with

{{ typed_rows('workspaces', []) }}

select * from judged

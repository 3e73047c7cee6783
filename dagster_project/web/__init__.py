"""Web servers as this product starts them, guarded against pages of other sites.

What is between a browser and a web application belongs here: which addresses are served, which requests
are refused, how the server is started. Pages and their content do not.
"""

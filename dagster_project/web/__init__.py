"""Web servers as this product starts them: on this machine only, and guarded against other sites.

Here belongs what stands between a browser and a web application: which addresses are served, which
requests are refused, how the server is started. Pages and what they say do not.
"""

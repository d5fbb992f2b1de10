"""HTTP/1.1 on inherited listening sockets: what a runner and the front answer requests with.

``messages`` are what a request and an answer are, ``connection`` one client, ``server`` all of them and how they
leave. What is answered is not known here: that is a function from request to answer, given to the server.
"""

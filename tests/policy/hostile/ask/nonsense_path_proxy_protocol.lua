return 'forward', { path = '/run/x.sock', proxy_protocol = true }

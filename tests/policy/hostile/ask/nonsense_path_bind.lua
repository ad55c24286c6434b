return 'forward', { path = '/run/x.sock', bind = '127.0.0.1' }

return 'forward', { path = '/run/x.sock', port = 7 }

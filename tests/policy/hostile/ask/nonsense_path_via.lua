return 'forward', { path = '/run/x.sock', via = 'none' }

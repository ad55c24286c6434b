undefined()

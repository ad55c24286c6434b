return destination.host

# SPDX-License-Identifier: MIT OR Apache-2.0
"""The real nginx, as Debian configures it, with nothing on it."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from .net import free_port
from .waiting import wait_until

VERSION = "nginx/1.22.1"
CONF = """
worker_processes 1;
daemon off;
pid {d}/nginx.pid;
error_log {d}/error.log;
events {{ worker_connections 2000; }}
http {{
	sendfile on;
	tcp_nopush on;
	types_hash_max_size 2048;
	include /etc/nginx/mime.types;
	default_type application/octet-stream;
	ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
	ssl_prefer_server_ciphers on;
	access_log {access};
	gzip on;
	client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
	uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
	{times}
	server {{
		listen 127.0.0.1:{port} ssl;
		ssl_certificate {cert};
		ssl_certificate_key {key};
		location / {{ return 404; }}
	}}
}}
"""
TIMES = {
    "client_header_timeout": 60, "client_body_timeout": 60, "keepalive_timeout": 75, "send_timeout": 60,
    "lingering_timeout": 5, "lingering_time": 30,
}


def find():
    """The nginx of which the built-in site is a copy, or None."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return program if VERSION in said else None


class Nginx:
    def __init__(self, directory, cert, key, scale=1, access_log=False):
        self.directory = Path(directory)
        self.port = free_port()
        times = " ".join(f"{name} {seconds * 1000 // scale}ms;" for name, seconds in TIMES.items())
        conf = self.directory / "nginx.conf"
        access = self.directory / "access.log" if access_log else "off"
        conf.write_text(CONF.format(d=self.directory, times=times, port=self.port, cert=cert, key=key, access=access))
        with open(self.directory / "nginx.out", "wb") as out:
            self.process = subprocess.Popen([find(), "-e", self.directory / "error.log", "-c", conf], stdout=out, stderr=out)
        try:
            wait_until(self.answers, what="nginx")
        except AssertionError:
            self.stop()
            raise AssertionError((self.directory / "nginx.out").read_text()) from None

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

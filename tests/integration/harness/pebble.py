# SPDX-License-Identifier: MIT OR Apache-2.0
"""A CA to get certificates from: pebble, with DNS of the tests' own, all of it on loopback."""

import json
import shutil
import ssl
import urllib.request

import pytest

from . import procs
from .net import free_port
from .tlscerts import Authority
from .waiting import wait_until


class Pebble:
    def __init__(self, directory, nonce_reject=0, one_port=False, **env):
        for program in ("pebble", "pebble-challtestsrv"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        directory.mkdir()
        self.directory = directory
        self.authority = Authority(directory)
        cert, key = self.authority.issue("pebble", "localhost", "DNS:localhost,IP:127.0.0.1")
        self.port, self.management, dns = free_port(), free_port(), free_port()
        self.tls = free_port()
        self.http = self.tls if one_port else free_port()
        self.root = directory / "root.pem"
        conf = directory / "pebble.json"
        conf.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(cert), "privateKey": str(key), "httpPort": self.http, "tlsPort": self.tls, "ocspResponderURL": "",
        }}))
        argv = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
        self.dns = procs.Program([*argv, "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{free_port()}"], directory / "dns.log")
        more = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(nonce_reject), "PEBBLE_AUTHZREUSE": "0", **env}
        self.ca = procs.Program(
            ["pebble", "-config", conf, "-dnsserver", f"127.0.0.1:{dns}"], directory / "pebble.log", env=procs.environment(**more))
        wait_until(self.answers, 20, "pebble")

    @property
    def url(self):
        return f"https://localhost:{self.port}/dir"

    def get(self, port, path):
        context = ssl.create_default_context(cafile=self.authority.path("ca.pem"))
        with urllib.request.urlopen(f"https://localhost:{port}{path}", context=context, timeout=10) as answer:
            return answer.read().decode()

    def answers(self):
        assert self.ca.running(), self.ca.log()
        try:
            self.get(self.port, "/dir")
            self.root.write_text(self.get(self.management, "/roots/0"))
        except OSError:
            return False
        return True

    def stop(self):
        self.ca.kill()
        self.dns.kill()

# SPDX-License-Identifier: MIT OR Apache-2.0
"""TLS certificates for tests, by openssl: an authority of our own, and what it or the key itself signs."""

import datetime
import os
import subprocess

CONFIG = """[req]
distinguished_name = dn
[dn]
[ca]
default_ca = here
[here]
database = {dir}/index
new_certs_dir = {dir}
serial = {dir}/serial
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""


class Authority:
    """Makes NAME.pem and NAME.key in `directory`; ca.pem is what to trust."""

    def __init__(self, directory):
        self.dir = directory
        (directory / "index").write_text("")
        (directory / "serial").write_text("01\n")
        (directory / "ca.cnf").write_text(CONFIG.format(dir=directory))
        self.ca = self.self_signed("ca", "alknet test authority")[0]

    def path(self, name):
        return str(self.dir / name)

    def openssl(self, *argv):
        subprocess.run(["openssl", *argv], check=True, capture_output=True, cwd=self.dir)

    def key(self, name):
        path = self.path(name + ".key")
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
        os.chmod(path, 0o600)
        return path

    def self_signed(self, name, subject):
        key, pem = self.key(name), self.path(name + ".pem")
        self.openssl("req", "-x509", "-new", "-key", key, "-subj", f"/CN={subject}", "-days", "2", "-out", pem)
        return pem, key

    def issue(self, name, host, alt=None, start=-1, end=10):
        """A certificate for `host`, valid from `start` to `end` days from now; gives (certificate, key)."""
        key, request, pem = self.key(name), self.path(name + ".csr"), self.path(name + ".pem")
        self.openssl("req", "-new", "-key", key, "-subj", f"/CN={host}", "-addext", f"subjectAltName={alt or 'DNS:' + host}", "-out", request)
        self.sign(request, pem, start, end)
        return pem, key

    def sign(self, request, pem, start, end, extensions=None):
        """`start` and `end` are days from now; `extensions` go before those of the request."""
        now = datetime.datetime.now(datetime.timezone.utc)
        dates = [(now + datetime.timedelta(days=d)).strftime("%Y%m%d%H%M%SZ") for d in (start, end)]
        more = []
        if extensions is not None:
            (self.dir / "extensions").write_text(extensions)
            more = ["-extfile", self.path("extensions"), "-subj", "/CN=signed"]
        self.openssl(
            "ca", "-batch", "-notext", "-config", self.path("ca.cnf"), "-cert", self.path("ca.pem"), "-keyfile", self.path("ca.key"),
            "-startdate", dates[0], "-enddate", dates[1], *more, "-in", request, "-out", pem,
        )

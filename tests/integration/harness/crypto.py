# SPDX-License-Identifier: MIT OR Apache-2.0
"""X25519, Ed25519 and AES-256-GCM out of the system's libcrypto, for a hand-made SSH client."""

import ctypes

_lib = ctypes.CDLL("libcrypto.so.3")
_lib.EVP_CIPHER_CTX_free.argtypes = [ctypes.c_void_p]
for _name in (
    "EVP_PKEY_new_raw_private_key",
    "EVP_PKEY_new_raw_public_key",
    "EVP_PKEY_CTX_new",
    "EVP_MD_CTX_new",
    "EVP_CIPHER_CTX_new",
    "EVP_aes_256_gcm",
):
    getattr(_lib, _name).restype = ctypes.c_void_p

_X25519, _ED25519 = 1034, 1087
_GET_TAG, _SET_TAG = 0x10, 0x11


def _pointer(value):
    if not value:
        raise RuntimeError("libcrypto refused")
    return ctypes.c_void_p(value)


def _ok(rc):
    if rc != 1:
        raise ValueError("libcrypto refused")


class _Key:
    def __init__(self, kind, seed):
        self.pkey = _pointer(_lib.EVP_PKEY_new_raw_private_key(kind, None, seed, ctypes.c_size_t(len(seed))))
        out, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        _ok(_lib.EVP_PKEY_get_raw_public_key(self.pkey, out, ctypes.byref(size)))
        self.public = out.raw

    def __del__(self):
        _lib.EVP_PKEY_free(self.pkey)


class X25519(_Key):
    def __init__(self, seed):
        super().__init__(_X25519, seed)

    def shared(self, peer):
        other = _pointer(_lib.EVP_PKEY_new_raw_public_key(_X25519, None, peer, ctypes.c_size_t(32)))
        ctx = _pointer(_lib.EVP_PKEY_CTX_new(self.pkey, None))
        out, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        try:
            _ok(_lib.EVP_PKEY_derive_init(ctx))
            _ok(_lib.EVP_PKEY_derive_set_peer(ctx, other))
            _ok(_lib.EVP_PKEY_derive(ctx, out, ctypes.byref(size)))
        finally:
            _lib.EVP_PKEY_CTX_free(ctx)
            _lib.EVP_PKEY_free(other)
        return out.raw


class Ed25519(_Key):
    def __init__(self, seed):
        super().__init__(_ED25519, seed)

    def sign(self, message):
        ctx = _pointer(_lib.EVP_MD_CTX_new())
        out, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        try:
            _ok(_lib.EVP_DigestSignInit(ctx, None, None, None, self.pkey))
            _ok(_lib.EVP_DigestSign(ctx, out, ctypes.byref(size), message, ctypes.c_size_t(len(message))))
        finally:
            _lib.EVP_MD_CTX_free(ctx)
        return out.raw


class Gcm:
    """One direction of aes256-gcm@openssh.com (RFC 5647): the counter in the nonce moves by itself."""

    def __init__(self, key, nonce, encrypt):
        self.key, self.fixed, self.encrypt = key, nonce[:4], encrypt
        self.counter = int.from_bytes(nonce[4:12], "big")
        self.ctx = _pointer(_lib.EVP_CIPHER_CTX_new())
        self.cipher = _pointer(_lib.EVP_aes_256_gcm())

    def __del__(self):
        _lib.EVP_CIPHER_CTX_free(self.ctx)

    def _start(self, head):
        nonce = self.fixed + self.counter.to_bytes(8, "big")
        self.counter = (self.counter + 1) & (1 << 64) - 1
        _ok(_lib.EVP_CipherInit_ex(self.ctx, self.cipher, None, self.key, nonce, int(self.encrypt)))
        n = ctypes.c_int()
        _ok(_lib.EVP_CipherUpdate(self.ctx, None, ctypes.byref(n), head, len(head)))

    def _run(self, text):
        out, n = ctypes.create_string_buffer(len(text) + 16), ctypes.c_int()
        _ok(_lib.EVP_CipherUpdate(self.ctx, out, ctypes.byref(n), bytes(text), len(text)))
        return out.raw[: n.value]

    def seal(self, head, text):
        self._start(head)
        out, n = self._run(text), ctypes.c_int()
        tag = ctypes.create_string_buffer(16)
        _ok(_lib.EVP_CipherFinal_ex(self.ctx, tag, ctypes.byref(n)))
        _ok(_lib.EVP_CIPHER_CTX_ctrl(self.ctx, _GET_TAG, 16, tag))
        return head + out + tag.raw

    def open(self, head, text, tag):
        self._start(head)
        _ok(_lib.EVP_CIPHER_CTX_ctrl(self.ctx, _SET_TAG, 16, ctypes.create_string_buffer(bytes(tag), 16)))
        out, n = self._run(text), ctypes.c_int()
        rest = ctypes.create_string_buffer(16)
        _ok(_lib.EVP_CipherFinal_ex(self.ctx, rest, ctypes.byref(n)))
        return out

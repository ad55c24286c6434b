// SPDX-License-Identifier: MIT OR Apache-2.0
//! What docs/SECRET.md describes, in the words of serde, encoded by the postcard crate: one line each, a name and
//! the bytes in hex with their length before them. The test compares them with its own and with the service's.

use serde::Serialize;

#[derive(Serialize)]
#[allow(dead_code)]
enum KeyType {
    Ed25519,
    Aes256Gcm,
    Secp256k1,
}

#[derive(Serialize)]
struct DerivedKey {
    key_type: KeyType,
    private_key: Vec<u8>,
    public_key: Vec<u8>,
}

#[derive(Serialize)]
struct EncryptedData {
    key_version: u32,
    salt: String,
    iv: String,
    data: String,
}

#[derive(Serialize)]
enum Request {
    DeriveEd25519 { path: String },
    DeriveEncryptionKey { path: String },
    DeriveEthereumKey { path: String },
    DerivePassword { path: String, length: usize },
    Encrypt { plaintext: Vec<u8>, key_version: u32 },
    Decrypt { encrypted: EncryptedData },
    Lock,
    Unlock { passphrase: String },
}

#[derive(Serialize)]
#[allow(dead_code)]
enum Error {
    ServiceLocked,
    AlreadyUnlocked,
    Mnemonic(String),
    Derivation(String),
    Encryption(String),
    InvalidPath(String),
    UnsupportedKeyType,
}

fn show<T: Serialize>(name: &str, value: &T) {
    let body = postcard::to_allocvec(value).expect("encodes");
    let mut whole = postcard::to_allocvec(&body.len()).expect("encodes");
    whole.extend(body);
    let hex: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{name} {hex}");
}

fn main() {
    let path = || "m/74'/0'/0'/0'".to_string();
    let sealed = || EncryptedData {
        key_version: 300,
        salt: "c2FsdA==".into(),
        iv: "AAECAwQFBgcICQoL".into(),
        data: "A".repeat(200),
    };
    show("ed25519", &Request::DeriveEd25519 { path: path() });
    show("encryption", &Request::DeriveEncryptionKey { path: path() });
    show("ethereum", &Request::DeriveEthereumKey { path: "m/44'/60'/0'/0/0".into() });
    show("password", &Request::DerivePassword { path: "m".into(), length: 300 });
    show("encrypt", &Request::Encrypt { plaintext: b"hi".to_vec(), key_version: 1 });
    show("encrypt_long", &Request::Encrypt { plaintext: vec![7; 20000], key_version: u32::MAX });
    show("decrypt", &Request::Decrypt { encrypted: sealed() });
    show("lock", &Request::Lock);
    show("unlock", &Request::Unlock { passphrase: "abandon nope".into() });
    show("ok", &Ok::<(), Error>(()));
    show("locked", &Err::<(), Error>(Error::ServiceLocked));
    show("unlocked", &Err::<(), Error>(Error::AlreadyUnlocked));
    show("bad", &Err::<(), Error>(Error::Mnemonic("bad".into())));
    show("path", &Err::<(), Error>(Error::InvalidPath("path: part 1 is empty".into())));
    show(
        "key",
        &Ok::<_, Error>(DerivedKey {
            key_type: KeyType::Secp256k1,
            private_key: vec![1; 32],
            public_key: vec![2; 33],
        }),
    );
    show("sealed", &Ok::<_, Error>(sealed()));
    show("bytes", &Ok::<Vec<u8>, Error>(vec![3; 300]));
}

//! Certificates, made for each test in a directory of its own, with keys and signatures by
//! graviola.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey as EcdsaKey};
use messenger::net::tls::{Connector, HTTP2, IdentityFiles};
use messenger::net::{Connection, Credentials, ServerAddr};
use messenger::settings::File;

use super::Grpc;

/// A directory that is removed on drop.
#[derive(Debug)]
pub struct Directory(PathBuf);

pub fn directory() -> Directory {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("a directory");
    Directory(path)
}

impl Directory {
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Replaces a file in one step, with a rename.
    pub fn write(&self, name: &str, contents: &str) -> String {
        let path = self.path(name);
        let new = format!("{path}.new");
        std::fs::write(&new, contents).expect("written");
        std::fs::rename(&new, &path).expect("renamed");
        path
    }

    /// Writes a certificate and its key as `name.pem` and `name.key`.
    pub fn identity(&self, name: &str, identity: &Identity) -> (String, String) {
        (self.write(&format!("{name}.pem"), &identity.certificate), self.write(&format!("{name}.key"), &identity.key))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, as PEM.
#[derive(Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

struct Key(EcdsaKey<P256>);

impl Key {
    fn generate() -> Self {
        Self(EcdsaKey::<P256>::generate().expect("a key"))
    }

    fn public(&self) -> Vec<u8> {
        self.0.to_spki_der(&mut [0; 128]).expect("a public key").to_vec()
    }

    fn pem(&self) -> String {
        pem("PRIVATE KEY", self.0.to_pkcs8_der(&mut [0; 256]).expect("a key"))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign_asn1::<Sha256>(&[message], &mut [0; 128]).expect("a signature").to_vec()
    }
}

/// A certificate authority.
pub struct Ca {
    name: String,
    key: Key,
    pub certificate: String,
}

pub fn ca(name: &str) -> Ca {
    let key = Key::generate();
    let is_ca = extension(&[0x55, 0x1d, 0x13], &der(0x30, &der(BOOLEAN, &[0xff])));
    let certificate = certificate(name, &key.public(), &is_ca, always(), name, &key);
    Ca { name: name.to_owned(), key, certificate }
}

impl Ca {
    /// A certificate for these names, and its key.
    pub fn sign(&self, names: &[&str]) -> Identity {
        self.sign_with(names, always())
    }

    /// A certificate that is valid between these times only, and its key.
    pub fn sign_within(&self, names: &[&str], begin: SystemTime, end: SystemTime) -> Identity {
        self.sign_with(names, [utc_time(begin), utc_time(end)].concat())
    }

    fn sign_with(&self, names: &[&str], validity: Vec<u8>) -> Identity {
        let key = Key::generate();
        let names: Vec<u8> = names.iter().flat_map(|name| general_name(name)).collect();
        let names = extension(&[0x55, 0x1d, 0x11], &der(0x30, &names));
        let certificate = certificate("test", &key.public(), &names, validity, &self.name, &self.key);
        Identity { certificate, key: key.pem() }
    }
}

/// A certificate of X.509 version 3. <https://www.rfc-editor.org/rfc/rfc5280#section-4.1>
fn certificate(
    subject: &str,
    public_key: &[u8],
    extension: &[u8],
    validity: Vec<u8>,
    issuer: &str,
    issuer_key: &Key,
) -> String {
    const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let algorithm = der(0x30, &der(OID, &ECDSA_WITH_SHA256));
    // The first bit is zero, so the number is positive, and the second is not, so it has no leading
    // zero byte.
    let serial = ((fastrand::u64(..) >> 1) | (1 << 62)).to_be_bytes();
    let contents = [
        der(0xa0, &der(INTEGER, &[2])),
        der(INTEGER, &serial),
        algorithm.clone(),
        name(issuer),
        der(0x30, &validity),
        name(subject),
        public_key.to_vec(),
        der(0xa3, &der(0x30, extension)),
    ];
    let contents = der(0x30, &contents.concat());
    let signature = [&[0], &issuer_key.sign(&contents)[..]].concat();
    pem("CERTIFICATE", &der(0x30, &[contents, algorithm, der(BIT_STRING, &signature)].concat()))
}

/// A validity from 1975 to 4096.
fn always() -> Vec<u8> {
    [der(UTC_TIME, b"750101000000Z"), der(GENERALIZED_TIME, b"40960101000000Z")].concat()
}

fn utc_time(time: SystemTime) -> Vec<u8> {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).skip(2).collect();
    der(UTC_TIME, format!("{digits}Z").as_bytes())
}

fn name(common_name: &str) -> Vec<u8> {
    let pair = [der(OID, &[0x55, 4, 3]), der(UTF8_STRING, common_name.as_bytes())].concat();
    der(0x30, &der(0x31, &der(0x30, &pair)))
}

fn general_name(name: &str) -> Vec<u8> {
    match name.parse() {
        Ok(IpAddr::V4(address)) => der(0x87, &address.octets()),
        Ok(IpAddr::V6(address)) => der(0x87, &address.octets()),
        Err(_) => der(0x82, name.as_bytes()),
    }
}

/// A critical extension.
fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    der(0x30, &[der(OID, id), der(BOOLEAN, &[0xff]), der(OCTET_STRING, value)].concat())
}

/// A connector that trusts the CA in this file and presents this identity, if any.
pub fn connector(ca: &str, identity: Option<&(String, String)>, protocol: &'static [u8]) -> Connector {
    let file = |path: &str| File::new("TEST", path.into());
    let identity = identity.map(|(certificate, key)| IdentityFiles { certificate: file(certificate), key: file(key) });
    Connector::new(file(ca), identity, Some(protocol)).expect("good files")
}

/// Connects over TLS to this port.
pub async fn try_grpc(
    port: u16,
    ca: &str,
    identity: Option<&(String, String)>,
) -> Result<Grpc, messenger::net::ConnectError> {
    let server: ServerAddr = format!("https://localhost:{port}").parse().expect("an address");
    let access = Credentials { tls: Some(Arc::new(connector(ca, identity, HTTP2))), token: None };
    let connection = Connection::open_with(&server, &access, None).await?;
    Ok(Grpc::with_origin(connection, server.origin()))
}

/// The beginning of an RSA key, up to the modulus, which gives the number of bits.
pub fn rsa_key(bits: usize) -> String {
    let modulus = [vec![0, 0x80], vec![1; bits / 8 - 1]].concat();
    let [key, key_in_pkcs8] = [&[2, 1, 0][..], &[2, 1, 0, 0x30, 13, 6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 1, 5, 0]];
    let key = der(0x30, &[key, &der(INTEGER, &modulus), &[2, 3, 1, 0, 1]].concat());
    pem("PRIVATE KEY", &der(0x30, &[key_in_pkcs8, &der(OCTET_STRING, &key)].concat()))
}

const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const OCTET_STRING: u8 = 4;
const OID: u8 = 6;
const UTF8_STRING: u8 = 12;
const UTC_TIME: u8 = 23;
const GENERALIZED_TIME: u8 = 24;

/// Encodes a tag, the length in its shortest form, and the value.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    match length {
        [0, short @ ..0x80] => [&[tag, short], value].concat(),
        [0, length] => [&[tag, 0x81, length], value].concat(),
        length => [&[tag, 0x82], &length[..], value].concat(),
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

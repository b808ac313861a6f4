//! Certificates, made for each test in a directory of its own. The keys are graviola's, so that no C compiler is needed here either.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey as EcdsaKey};
use messenger::net::tls::{Connector, HTTP2, IdentityFiles};
use messenger::net::{Connection, Credentials, ServerAddr};
use messenger::settings::File;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, PublicKeyData, SerialNumber, date_time_ymd};

use super::Grpc;

/// A directory that goes with the test.
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

    /// Writes a file as a careful administrator does, in one step.
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

/// PEM.
#[derive(Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

struct Key {
    key: EcdsaKey<P256>,
    public: Vec<u8>,
}

impl Key {
    fn generate() -> Self {
        let key = EcdsaKey::<P256>::generate().expect("a key");
        let mut spki = [0; 128];
        let spki = key.to_spki_der(&mut spki).expect("a public key");
        // The point, uncompressed, is at the end.
        let public = spki[spki.len() - 65..].to_vec();
        Self { key, public }
    }

    fn pem(&self) -> String {
        let mut pkcs8 = [0; 256];
        let pkcs8 = self.key.to_pkcs8_der(&mut pkcs8).expect("a key");
        let lines = base64(pkcs8);
        format!("-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n")
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = [0; 128];
        Ok(self.key.sign_asn1::<Sha256>(&[message], &mut signature).expect("a signature").to_vec())
    }
}

/// One who signs.
pub struct Ca {
    issuer: Issuer<'static, Key>,
    pub certificate: String,
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.serial_number = Some(SerialNumber::from(fastrand::u64(1..)));
    params
}

pub fn ca(name: &str) -> Ca {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = Key::generate();
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    Ca { issuer: Issuer::new(params, key), certificate }
}

impl Ca {
    /// A certificate for these names, and its key.
    pub fn sign(&self, names: &[&str]) -> Identity {
        self.sign_with(params(names))
    }

    /// The same, and it is valid from and until these times only.
    pub fn sign_within(&self, names: &[&str], begin: SystemTime, end: SystemTime) -> Identity {
        let at = |time: SystemTime| date_time_ymd(1970, 1, 1) + time.duration_since(UNIX_EPOCH).expect("after 1970");
        let mut params = params(names);
        (params.not_before, params.not_after) = (at(begin), at(end));
        self.sign_with(params)
    }

    fn sign_with(&self, params: CertificateParams) -> Identity {
        let key = Key::generate();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity { certificate, key: key.pem() }
    }
}

/// What a test connects with: trusts those signed by the CA in this file, and shows this identity, if any.
pub fn connector(ca: &str, identity: Option<&(String, String)>, protocol: &'static [u8]) -> Connector {
    let file = |path: &str| File::new("TEST", path.into());
    let identity = identity.map(|(certificate, key)| IdentityFiles { certificate: file(certificate), key: file(key) });
    Connector::new(file(ca), identity, Some(protocol)).expect("good files")
}

/// A connection under TLS to this port.
pub async fn try_grpc(
    port: u16,
    ca: &str,
    identity: Option<&(String, String)>,
) -> Result<Grpc, messenger::net::ConnectError> {
    let server: ServerAddr = format!("https://localhost:{port}").parse().expect("an address");
    let access = Credentials { tls: Some(Arc::new(connector(ca, identity, HTTP2))), token: None };
    let connection = Connection::open_with(&server, &access).await?;
    Ok(Grpc::with_origin(connection, server.origin()))
}

/// The beginning of an RSA key of so many bits, as a PEM file: as much of it as shows how many these are.
pub fn rsa_key(bits: usize) -> String {
    let modulus = [vec![0, 0x80], vec![1; bits / 8 - 1]].concat();
    let [key, key_in_pkcs8] = [&[2, 1, 0][..], &[2, 1, 0, 0x30, 13, 6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 1, 5, 0]];
    let key = der(0x30, &[key, &der(2, &modulus), &[2, 3, 1, 0, 1]].concat());
    let key = der(0x30, &[key_in_pkcs8, &der(4, &key)].concat());
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64(&key))
}

fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    [&[tag, 0x82], &length[..], value].concat()
}

/// In lines of 64 characters, as PEM has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > three.len() { '=' } else { char::from(DIGITS[index as usize]) });
        }
        if text.len() % 65 == 64 {
            text.push('\n');
        }
    }
    text.trim_end().to_owned()
}

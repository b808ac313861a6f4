//! The byte stream under HTTP: TCP, in the clear or under TLS, watched for peers that are gone.

pub(crate) mod observed;
pub(crate) mod socket;
pub(crate) mod tcp_keepalive;
pub(crate) mod watched;

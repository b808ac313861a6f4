//! The labels of a call.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use tonic::Code;

use crate::proto;

/// A gRPC method.
#[allow(clippy::struct_field_names, reason = "the fields are the names of the labels")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::server) struct GrpcMethod {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

/// The status of a call that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StatusLabel {
    grpc_code: CodeName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CodeName(Code);

static KNOWN_METHODS: [GrpcMethod; 6] = [
    GrpcMethod::SEND_MESSAGE,
    GrpcMethod::new("server_stream", proto::SERVICE, "ReadMessages"),
    GrpcMethod::new("unary", "grpc.health.v1.Health", "Check"),
    GrpcMethod::new("server_stream", "grpc.health.v1.Health", "Watch"),
    GrpcMethod::new("bidi_stream", "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    GrpcMethod::new("bidi_stream", "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
];

impl GrpcMethod {
    pub(super) const SEND_MESSAGE: Self = Self::new("unary", proto::SERVICE, "SendMessage");
    /// One label for all unknown paths, because each label takes memory and callers can invent
    /// paths.
    const UNKNOWN: Self = Self::new("unknown", "unknown", "unknown");

    const fn new(grpc_type: &'static str, grpc_service: &'static str, grpc_method: &'static str) -> Self {
        Self { grpc_type, grpc_service, grpc_method }
    }

    /// The method at this path.
    pub(in crate::server) fn at(path: &str) -> &'static Self {
        let names = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let known = names.and_then(|(service, method)| {
            KNOWN_METHODS.iter().find(|known| known.grpc_service == service && known.grpc_method == method)
        });
        known.unwrap_or(&Self::UNKNOWN)
    }

    /// Whether the server has this method.
    pub(in crate::server) fn is_known(&self) -> bool {
        *self != Self::UNKNOWN
    }
}

impl StatusLabel {
    pub(super) fn new(code: Code) -> Self {
        Self { grpc_code: CodeName(code) }
    }
}

impl EncodeLabelValue for CodeName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        // gRPC's own libraries write the names like this.
        match self.0 {
            Code::Ok => "OK".encode(encoder),
            Code::Cancelled => "Canceled".encode(encoder),
            other => format!("{other:?}").as_str().encode(encoder),
        }
    }
}

//! Protobuf in and out of calls, with the statuses that callers can act on.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// tonic's protobuf codec but for one thing: a request that does not decode is the caller's mistake, `INVALID_ARGUMENT` with the
/// name of the field, where tonic says `INTERNAL`, which reads like a fault of the server.
#[derive(Debug)]
pub(super) struct StrictCodec<Response, Request>(PhantomData<(Response, Request)>);

impl<Response, Request> StrictCodec<Response, Request> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Response, Request> Codec for StrictCodec<Response, Request>
where
    Response: Message + 'static,
    Request: Message + Default + 'static,
{
    type Encode = Response;
    type Decode = Request;
    type Encoder = ProstEncoder<Response>;
    type Decoder = StrictDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

#[derive(Debug)]
pub(super) struct StrictDecoder<Request>(PhantomData<Request>);

impl<Request: Message + Default> Decoder for StrictDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        Request::decode(buf).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

//! The end of a gRPC stream: the grpc-status in the trailers, or an HTTP/2 error.
//!
//! Trailers are HPACK (RFC 7541). In the first trailers of a connection the name is a literal,
//! plain or Huffman-coded. This module searches for the name instead of decoding the whole block.

const NAME: &[u8] = b"\x0bgrpc-status";
const HUFFMAN_NAME: &[u8] = b"\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f";
const HUFFMAN: u8 = 0x80;

const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// The name of the grpc-status in a header block, if it has one.
pub fn grpc(block: &[u8]) -> Option<&'static str> {
    let value = [NAME, HUFFMAN_NAME].into_iter().find_map(|name| {
        let start = block.windows(name.len()).position(|window| window == name)?;
        block.get(start + name.len()..)
    })?;
    let (length, value) = value.split_first()?;
    let value = value.get(..usize::from(length & !HUFFMAN))?;
    let number = if length & HUFFMAN == 0 {
        value.iter().fold(0, |number, digit| number * 10 + usize::from(digit.wrapping_sub(b'0')))
    } else {
        digits(value)
    };
    STATUSES.get(number).copied()
}

/// The name of an HTTP/2 error code.
pub fn http2(code: u32) -> &'static str {
    usize::try_from(code)
        .ok()
        .and_then(|code| ERRORS.get(code).copied())
        .unwrap_or("an unknown error")
}

/// Decodes a Huffman-coded number. 0, 1 and 2 have the five bits 00000 to 00010, the other digits
/// the six bits 011001 to 011111. The last byte is filled with ones.
fn digits(bytes: &[u8]) -> usize {
    let bytes = &bytes[..bytes.len().min(2)];
    let bits = bytes.len() * 8;
    let all = bytes.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    let (mut number, mut at) = (0, 0);
    while at + 5 <= bits {
        let five = all >> (bits - at - 5) & 0x1f;
        let (digit, size) = match five {
            0..=2 => (five, 5),
            12..=15 if at + 6 <= bits => ((all >> (bits - at - 6) & 0x3f) - 22, 6),
            _ => break,
        };
        number = number * 10 + usize::try_from(digit).unwrap_or_default();
        at += size;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_huffman_coded() {
        assert_eq!(grpc(b"\x40\x0bgrpc-status\x018"), Some("RESOURCE_EXHAUSTED"));
        assert_eq!(grpc(b"\x88\x40\x0bgrpc-status\x0214\x40"), Some("UNAVAILABLE"));
        let huffman =
            |value: &[u8]| grpc(&[b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f", value].concat());
        assert_eq!(huffman(b"\x81\x07"), Some("OK"));
        assert_eq!(huffman(b"\x81\x7b"), Some("RESOURCE_EXHAUSTED"));
        // 1 is 00001, 4 is 011010, and five ones fill the byte.
        assert_eq!(huffman(b"\x82\x0b\x5f"), Some("UNAVAILABLE"));
        assert_eq!(grpc(b"\x40\x0cgrpc-message"), None);
    }
}

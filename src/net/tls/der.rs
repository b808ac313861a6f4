//! Parses the part of DER that error messages and warnings about certificates and keys need:
//! <https://www.itu.int/rec/T-REC-X.690>.

use std::time::SystemTime;

use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of a certificate's version.
const VERSION: u8 = 0xa0;
/// rsaEncryption, 1.2.840.113549.1.1.1, as an object identifier.
const RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// The first and the last moment in which a certificate is valid.
pub(super) fn validity(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let mut certificate = expect(&mut &*certificate, SEQUENCE)?;
    let mut fields = expect(&mut certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        next(&mut fields)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        next(&mut fields)?;
    }
    let mut validity = expect(&mut fields, SEQUENCE)?;
    Some((time(&mut validity)?, time(&mut validity)?))
}

/// The size of an RSA key in bits; `None` for other keys.
pub(super) fn rsa_bits(key: &PrivateKeyDer<'_>) -> Option<usize> {
    let mut key = match key {
        PrivateKeyDer::Pkcs1(key) => key.secret_pkcs1_der(),
        PrivateKeyDer::Pkcs8(key) => {
            let mut key = expect(&mut key.secret_pkcs8_der(), SEQUENCE)?;
            expect(&mut key, INTEGER)?;
            expect(&mut key, SEQUENCE)?.starts_with(RSA).then_some(())?;
            expect(&mut key, OCTET_STRING)?
        }
        _ => return None,
    };
    let mut key = expect(&mut key, SEQUENCE)?;
    expect(&mut key, INTEGER)?;
    let modulus = expect(&mut key, INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let (first, rest) = modulus[zeros..].split_first()?;
    Some(rest.len() * 8 + (u8::BITS - first.leading_zeros()) as usize)
}

fn time(input: &mut &[u8]) -> Option<SystemTime> {
    let (tag, text) = next(input)?;
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let (century, rest) = match tag {
        // "Where YY is greater than or equal to 50, the year SHALL be interpreted as 19YY" (RFC
        // 5280).
        UTC_TIME if text >= "50" => ("19", text),
        UTC_TIME => ("20", text),
        GENERALIZED_TIME => text.split_at_checked(2)?,
        _ => return None,
    };
    let two = |at: usize| rest.get(2 * at..2 * at + 2);
    let (year, month, day, hour, minute, second) = (two(0)?, two(1)?, two(2)?, two(3)?, two(4)?, two(5)?);
    humantime::parse_rfc3339(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

/// The content of the next value, if it has this tag.
fn expect<'a>(input: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    next(input).filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
}

/// The tag and the content of the next value.
fn next<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, length], rest) = input.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if bytes.len() > size_of::<u32>() {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, value))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn parse(tag: u8, text: &str) -> Option<u64> {
        let bytes = [&[tag, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        Some(time(&mut bytes.as_slice())?.duration_since(UNIX_EPOCH).expect("after 1970").as_secs())
    }

    #[test]
    fn reads_both_kinds_of_time() {
        assert_eq!(parse(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(parse(UTC_TIME, "250920105842Z"), Some(1_758_365_922));
        assert_eq!(parse(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(parse(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for no_time in ["", "5", "250920", "25092010584", "xx0920105842Z", "251320105842Z", "é50920105842Z"] {
            assert_eq!(parse(UTC_TIME, no_time), None, "{no_time}");
        }
    }

    #[test]
    fn truncated_or_malformed_values_are_none() {
        let whole = [SEQUENCE, 0x82, 0, 3, INTEGER, 1, 7];
        assert_eq!(expect(&mut whole.as_slice(), SEQUENCE), Some(&whole[4..]));
        for length in 0..whole.len() {
            assert_eq!(next(&mut &whole[..length]), None, "{length}");
            assert_eq!(validity(&whole[..length]), None, "{length}");
        }
        assert_eq!(next(&mut [SEQUENCE, 0xff].as_slice()), None);
        assert_eq!(next(&mut [SEQUENCE, 0x85, 0, 0, 0, 0, 1, 7].as_slice()), None);
    }
}

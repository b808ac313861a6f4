//! The texts of the messages: sender, number, and the intended time of sending.

/// The sender of the warm-up messages.
pub const WARM_UP: usize = 9999;
const FIELDS: usize = 4 + 10 + 16;

/// Fills `text`, which has at least 30 bytes.
pub fn write(text: &mut [u8], sender: usize, number: u64, intended: u64) {
    text.fill(b'x');
    digits(&mut text[..4], sender as u64);
    digits(&mut text[4..14], number);
    digits(&mut text[14..FIELDS], intended);
}

/// Reads sender, number, and the intended time in nanoseconds.
pub fn read(text: &[u8]) -> Option<(usize, u64, u64)> {
    let fields = text.get(..FIELDS)?;
    let number = |digits: &[u8]| {
        digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
    };
    Some((
        usize::try_from(number(&fields[..4])).ok()?,
        number(&fields[4..14]),
        number(&fields[14..]),
    ))
}

fn digits(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

//! A body that arrives piece by piece.

/// The part of a body that has arrived, copied into memory of its own. A piece kept as it was
/// received would pin the whole buffer that it was read into.
#[derive(Debug, Default)]
pub struct PartialBody(Vec<u8>);

impl PartialBody {
    /// Appends a piece of a body that will have at most `max` bytes.
    pub fn add(&mut self, piece: &[u8], max: usize) {
        let length = self.0.len() + piece.len();
        if length > self.0.capacity() {
            // Doubling keeps the copies few, and `max` keeps the capacity from exceeding the body.
            let capacity = (2 * self.0.capacity()).min(max).max(length);
            self.0.reserve_exact(capacity - self.0.len());
        }
        self.0.extend_from_slice(piece);
    }

    /// The bytes that have arrived.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes that have arrived, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The memory that the body takes, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_no_more_memory_than_the_body_will_need() {
        let (mut partial, whole) = (PartialBody::default(), [7; 1000]);
        for piece in whole.chunks(3) {
            partial.add(piece, whole.len());
            assert!(partial.held() <= (2 * partial.bytes().len()).min(whole.len()), "{partial:?}");
        }
        assert_eq!((partial.held(), partial.into_bytes().as_slice()), (whole.len(), &whole[..]));
    }
}

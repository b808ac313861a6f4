//! A body that comes piece by piece.

/// What has come of a body so far, in memory of its own. A piece that was kept as it came would hold the whole
/// buffer that it was read into, with whatever else was in that.
#[derive(Debug, Default)]
pub struct Gathered(Vec<u8>);

impl Gathered {
    /// Adds a piece of a body that is going to have at most so many bytes.
    pub fn add(&mut self, piece: &[u8], most: usize) {
        let length = self.0.len() + piece.len();
        if length > self.0.capacity() {
            // Twice as much each time, so that little is copied; and never more than there will be.
            let capacity = (2 * self.0.capacity()).min(most).max(length);
            self.0.reserve_exact(capacity - self.0.len());
        }
        self.0.extend_from_slice(piece);
    }

    /// What has come.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The bytes of memory that it takes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_there_will_be() {
        let (mut gathered, body) = (Gathered::default(), [7; 1000]);
        for piece in body.chunks(3) {
            gathered.add(piece, body.len());
            assert!(gathered.held() <= (2 * gathered.bytes().len()).min(body.len()), "{gathered:?}");
        }
        assert_eq!((gathered.held(), gathered.into_bytes().as_slice()), (body.len(), &body[..]));
    }
}

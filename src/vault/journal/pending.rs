//! Records in memory, until they have been folded. Knows nothing of the file that holds them too.

/// Room of one piece, in bytes: a longer list has more of them, so that none is copied when it grows.
const PIECE: usize = 64 << 10;
/// Bytes of the length before each record.
const LEN: usize = size_of::<u32>();

/// Contents of records, in order.
#[derive(Default)]
pub struct Pending {
    pieces: Vec<Vec<u8>>,
}

impl Pending {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds one at the end, of `super::CONTENT_MAX` bytes at most.
    pub(super) fn push(&mut self, content: &[u8]) {
        let len = LEN + content.len();
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < len) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.extend_from_slice(&(content.len() as u32).to_le_bytes());
            piece.extend_from_slice(content);
        }
    }

    /// Moves all of another list behind these.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.pieces.append(&mut later.pieces);
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.pieces = Vec::new();
    }

    /// The contents, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| {
            let mut rest = piece.as_slice();
            std::iter::from_fn(move || {
                let (len, behind) = rest.split_first_chunk::<LEN>()?;
                let (content, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
                rest = behind;
                Some(content)
            })
        })
    }
}

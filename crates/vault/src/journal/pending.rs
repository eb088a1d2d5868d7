//! Records in memory, until they have been folded. Knows nothing of the file that holds them too.

/// Capacity of one piece, in bytes. A longer list has more pieces, so that growing copies nothing.
const PIECE: usize = 64 << 10;
/// Length of the number before each record, in bytes.
const LEN: usize = size_of::<u32>();

/// A list of record contents, in the order they were appended.
#[derive(Default)]
pub struct Pending {
    pieces: Vec<Vec<u8>>,
}

impl Pending {
    /// Reports whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds a record at the end. It has at most [`super::CONTENT_MAX`] bytes.
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

    /// Moves all records of `later` to the end of this list.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.pieces.append(&mut later.pieces);
    }

    /// Removes all records and frees their memory.
    pub fn clear(&mut self) {
        self.pieces = Vec::new();
    }

    /// Returns the contents, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| {
            let mut rest = piece.as_slice();
            std::iter::from_fn(move || {
                let (len, tail) = rest.split_first_chunk::<LEN>()?;
                let (content, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
                rest = tail;
                Some(content)
            })
        })
    }
}

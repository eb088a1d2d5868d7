//! Finds the place in the template that produced a byte of the rendered text.

use minijinja::OutputSpan;

use guillemet_plan::protocol::PlanRequest;

/// The first and last of the delimiters that the daemon's lexer writes in place of the template's own.
const DELIMITERS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{e005}';

/// A place in the template's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourcePosition {
    /// The line, counted from 1; `None` if it is not known.
    pub line: Option<u32>,
    /// The column in characters, counted from 1. `None` after a tag on the same line, because the engine's text does
    /// not have the length of the template there.
    pub column: Option<u32>,
}

/// A piece of the output: its start and end, the start of its source, and whether both are the same text.
struct MappedSpan {
    start: usize,
    end: usize,
    source: usize,
    verbatim: bool,
}

/// The mapping from the rendered text back to the template.
pub struct Origins {
    source: String,
    pieces: Vec<MappedSpan>,
}

impl Origins {
    /// Takes the spans of the output that the template engine reported, in order.
    pub fn new(request: &PlanRequest, spans: &[OutputSpan]) -> Self {
        let pieces = spans.iter().map(|span| {
            let (output, source) = (span.output_range(), span.source_range());
            let verbatim = span.kind() == minijinja::OutputSpanKind::Raw && output.len() == source.len();
            MappedSpan { start: output.start, end: output.end, source: source.start, verbatim }
        });
        Self { source: request.text.clone(), pieces: pieces.collect() }
    }

    /// Returns the place that produced the byte at `offset` of the rendered text.
    pub fn of_output(&self, offset: usize) -> SourcePosition {
        let index = self.pieces.partition_point(|piece| piece.end <= offset);
        match self.pieces.get(index).or(self.pieces.last()) {
            Some(piece) if piece.verbatim => {
                // The end of the text is after the last piece.
                let within = offset.saturating_sub(piece.start).min(piece.end - piece.start);
                of_source(&self.source, piece.source + within)
            }
            Some(piece) => of_source(&self.source, piece.source),
            None => SourcePosition::default(),
        }
    }
}

/// Returns the place of a byte in the engine's text, which has the same lines as the template.
pub fn of_source(source: &str, offset: usize) -> SourcePosition {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let same_line = &before[line_start..];
    let line = u32::try_from(before.matches('\n').count() + 1).ok();
    let column = if same_line.contains(|c| DELIMITERS.contains(&c)) {
        None
    } else {
        u32::try_from(same_line.chars().count() + 1).ok()
    };
    SourcePosition { line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_stop_at_tags() {
        let source = "é = 1\nb = \u{e002} x \u{e003}, c\n";
        assert_eq!(of_source(source, "é ".len()), SourcePosition { line: Some(1), column: Some(3) });
        let behind_a_tag = source.rfind('c').unwrap();
        assert_eq!(of_source(source, behind_a_tag), SourcePosition { line: Some(2), column: None });
        assert_eq!(of_source(source, 1).line, Some(1), "the middle of a character");
        assert_eq!(of_source(source, 999).line, Some(3));
    }
}

//! Reads a file line by line, knows where it is, and keeps no line that is too long.

use std::io::{self, BufRead, Read as _};

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct TextLine {
    /// From 1.
    pub number: u64,
    /// `None` if the line has more bytes than the limit.
    pub bytes: Option<Vec<u8>>,
}

/// Where a reader is: between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinePosition {
    /// Bytes before it.
    pub offset: u64,
    /// Lines before it.
    pub lines: u64,
}

#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    at: LinePosition,
    longest: usize,
}

impl<R: BufRead> LineReader<R> {
    /// `input` continues at `at`.
    pub fn new(input: R, at: LinePosition, longest: usize) -> Self {
        LineReader { input, at, longest }
    }

    pub fn position(&self) -> LinePosition {
        self.at
    }

    /// # Errors
    /// If the input cannot be read.
    pub fn read_next(&mut self) -> io::Result<Option<TextLine>> {
        let mut bytes = Vec::new();
        // Room for an end of two bytes.
        let most = self.longest as u64 + 2;
        let mut read = self.input.by_ref().take(most).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        if read == most && !bytes.ends_with(b"\n") {
            read += self.skip_line()?;
        }
        self.at.offset += read;
        self.at.lines += 1;
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
        Ok(Some(TextLine { number: self.at.lines, bytes: (bytes.len() <= self.longest).then_some(bytes) }))
    }

    fn skip_line(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.input.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(buffer.len(), |end| end + 1);
            self.input.consume(length);
            skipped += length as u64;
            if end.is_some() || length == 0 {
                return Ok(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], longest: usize) -> Vec<(u64, Option<String>, u64)> {
        let mut lines = LineReader::new(io::BufReader::with_capacity(3, text), LinePosition::default(), longest);
        let mut found = Vec::new();
        while let Some(line) = lines.read_next().unwrap() {
            let text = line.bytes.map(|bytes| String::from_utf8(bytes).unwrap());
            found.push((line.number, text, lines.position().offset));
        }
        found
    }

    #[test]
    fn lines_have_their_number_and_the_position_after_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(all(b"", 9), []);
        assert_eq!(all(b"ab\r\n\ncd", 9), [(1, some("ab"), 4), (2, some(""), 5), (3, some("cd"), 7)]);
    }

    #[test]
    fn a_line_over_the_limit_is_passed_over() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(all(b"12345\n1234\n", 4), [(1, None, 6), (2, some("1234"), 11)]);
        assert_eq!(all(b"1234\r\n123456", 4), [(1, some("1234"), 6), (2, None, 12)]);
        assert_eq!(all(b"1234567890\nx\n", 4), [(1, None, 11), (2, some("x"), 13)]);
    }
}

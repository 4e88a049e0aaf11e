//! The values inside a frame of rows, one by one, straight off its bytes.

/// One value of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// NULL.
    Null,
    /// An INTEGER.
    Integer(i64),
    /// A REAL.
    Real(f64),
    /// A TEXT; its bytes have not been checked.
    Text(&'a [u8]),
    /// A BLOB.
    Blob(&'a [u8]),
    /// A TEXT that the worker found not to be UTF-8.
    BadText(&'a [u8]),
}

impl Item<'_> {
    /// What it is, as a person would say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a real",
            Self::Text(_) => "a text",
            Self::Blob(_) => "a blob",
            Self::BadText(_) => "a text that is not UTF-8",
        }
    }
}

/// Reads the values of a batch, without copying any.
#[derive(Clone, Copy, Debug)]
pub struct ItemReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ItemReader<'a> {
    /// From a place in a batch's bytes.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next value begins.
    pub fn at(&self) -> usize {
        self.at
    }

    #[inline]
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let slice = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(slice)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    #[inline]
    fn length(&mut self, width: usize) -> Option<usize> {
        Some(match width {
            1 => self.fixed::<1>()?[0].into(),
            2 => u16::from_be_bytes(self.fixed()?).into(),
            _ => u32::from_be_bytes(self.fixed()?) as usize,
        })
    }

    /// The next value; none where the bytes are no value.
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Item<'a>> {
        let tag = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match tag {
            0x00..=0x7f => Item::Integer(tag.into()),
            0xe0..=0xff => Item::Integer((tag as i8).into()),
            0xa0..=0xbf => Item::Text(self.take((tag & 0x1f).into())?),
            0xc0 => Item::Null,
            0xcc => Item::Integer(self.fixed::<1>()?[0].into()),
            0xcd => Item::Integer(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Item::Integer(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => Item::Integer(i64::try_from(u64::from_be_bytes(self.fixed()?)).ok()?),
            0xd0 => Item::Integer(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => Item::Integer(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => Item::Integer(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => Item::Integer(i64::from_be_bytes(self.fixed()?)),
            0xcb => Item::Real(f64::from_be_bytes(self.fixed()?)),
            0xca => Item::Real(f32::from_be_bytes(self.fixed()?).into()),
            0xd9..=0xdb => {
                let len = self.length(1 << (tag - 0xd9))?;
                Item::Text(self.take(len)?)
            }
            0xc4..=0xc6 => {
                let len = self.length(1 << (tag - 0xc4))?;
                Item::Blob(self.take(len)?)
            }
            0xc7..=0xc9 => {
                let len = self.length(1 << (tag - 0xc7))?;
                match self.take(1)? {
                    [1] => Item::BadText(self.take(len)?),
                    _ => return None,
                }
            }
            // Fixed-width extensions hold a text of 1, 2, 4, 8 or 16 bytes.
            0xd4..=0xd8 => match self.take(1)? {
                [1] => Item::BadText(self.take(1 << (tag - 0xd4))?),
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_a_worker_sends_is_read() {
        let mut bytes = Vec::new();
        let _ = rmp::encode::write_nil(&mut bytes);
        for n in [0, 127, 128, 255, 65_535, 1 << 31, i64::MAX, -1, -32, -33, -129, -32_769, i64::MIN] {
            let _ = rmp::encode::write_sint(&mut bytes, n);
        }
        let _ = rmp::encode::write_f64(&mut bytes, 1.5);
        for text in [String::new(), "é".into(), "x".repeat(300), "y".repeat(70_000)] {
            let _ = rmp::encode::write_str(&mut bytes, &text);
            let _ = rmp::encode::write_bin(&mut bytes, text.as_bytes());
            let _ = rmp::encode::write_ext_meta(&mut bytes, text.len() as u32, super::super::INVALID_TEXT);
            bytes.extend_from_slice(text.as_bytes());
        }
        let mut reader = ItemReader::new(&bytes, 0);
        assert_eq!(reader.next(), Some(Item::Null));
        for n in [0, 127, 128, 255, 65_535, 1 << 31, i64::MAX, -1, -32, -33, -129, -32_769, i64::MIN] {
            assert_eq!(reader.next(), Some(Item::Integer(n)));
        }
        assert_eq!(reader.next(), Some(Item::Real(1.5)));
        for text in [String::new(), "é".into(), "x".repeat(300), "y".repeat(70_000)] {
            assert_eq!(reader.next(), Some(Item::Text(text.as_bytes())));
            assert_eq!(reader.next(), Some(Item::Blob(text.as_bytes())));
            assert_eq!(reader.next(), Some(Item::BadText(text.as_bytes())));
        }
        assert_eq!((reader.at(), reader.next()), (bytes.len(), None));
        assert_eq!(ItemReader::new(&[0xc1], 0).next(), None, "what is no value is none");
        assert_eq!(ItemReader::new(&[0xdb, 0xff, 0xff, 0xff, 0xff], 0).next(), None, "nor is what ends too early");
    }
}

//! The GGUF container, versions 2 and 3 (ggml's `docs/gguf.md`): metadata, then where each tensor lies.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// Metadata and tensors of a file.
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
    /// Where the tensors' data begin in the file.
    pub(super) data: usize,
}

pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Outermost dimension first, as safetensors has it; the file has it the other way round.
    pub(super) shape: Vec<usize>,
    pub(super) kind: u32,
    /// From the beginning of the data.
    pub(super) offset: usize,
}

/// Arrays longer than this are a tokenizer's, which is not our business: they are skipped.
const LONGEST_ARRAY: u64 = 4096;

/// Reads the header.
///
/// # Errors
/// When the file ends early or is no GGUF.
pub(super) fn read(bytes: &[u8]) -> Result<Header, String> {
    let (mut cursor, tensor_count, value_count) = Cursor::open(bytes)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..value_count {
        let key = cursor.string()?;
        let kind = cursor.u32()?;
        if let Some(value) = cursor.value(kind)? {
            metadata.insert(key, value);
        }
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        let name = cursor.string()?;
        let dimensions = cursor.u32()?;
        if dimensions > 4 {
            return Err(format!("tensor {name} has {dimensions} dimensions"));
        }
        let mut shape = (0..dimensions).map(|_| cursor.size()).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let kind = cursor.u32()?;
        tensors.push(TensorInfo { name, shape, kind, offset: cursor.size()? });
    }
    let alignment = metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(32).clamp(1, 1 << 20);
    let alignment = usize::try_from(alignment).map_err(|error| error.to_string())?;
    Ok(Header { metadata, tensors, data: cursor.at.next_multiple_of(alignment) })
}

/// A place in the header.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const FLOAT: u32 = 6;
    pub(super) const STRING: u32 = 8;
    pub(super) const LIST: u32 = 9;

    /// Behind the file's first numbers: how many tensors and how many values it has.
    pub(super) fn open(bytes: &'a [u8]) -> Result<(Self, u64, u64), String> {
        let mut cursor = Self { bytes, at: 0 };
        if cursor.take(4)? != b"GGUF" {
            return Err("it does not begin with GGUF".to_owned());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("version {version} of GGUF is not supported"));
        }
        let (tensors, values) = (cursor.u64()?, cursor.u64()?);
        Ok((cursor, tensors, values))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("the file ends within its header")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "the file ends within its header".to_owned())
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn size(&mut self) -> Result<usize, String> {
        usize::try_from(self.u64()?).map_err(|error| error.to_string())
    }

    pub(super) fn take_string(&mut self) -> Result<&'a [u8], String> {
        let length = self.size()?;
        self.take(length)
    }

    pub(super) fn string(&mut self) -> Result<String, String> {
        Ok(String::from_utf8_lossy(self.take_string()?).into_owned())
    }

    /// A value of a kind; None for an array that is skipped.
    pub(super) fn value(&mut self, kind: u32) -> Result<Option<Value>, String> {
        let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
        Ok(Some(match kind {
            0 => self.array().map(u8::from_le_bytes)?.into(),
            1 => self.array().map(i8::from_le_bytes)?.into(),
            2 => self.array().map(u16::from_le_bytes)?.into(),
            3 => self.array().map(i16::from_le_bytes)?.into(),
            4 => self.u32()?.into(),
            5 => self.array().map(i32::from_le_bytes)?.into(),
            Self::FLOAT => float(f64::from(self.array().map(f32::from_le_bytes)?)),
            7 => (self.take(1)? != [0]).into(),
            Self::STRING => self.string()?.into(),
            Self::LIST => return self.list(),
            10 => self.u64()?.into(),
            11 => self.array().map(i64::from_le_bytes)?.into(),
            12 => float(self.array().map(f64::from_le_bytes)?),
            other => return Err(format!("a value of the unknown kind {other}")),
        }))
    }

    /// Kind and number of an array's values.
    pub(super) fn list_head(&mut self) -> Result<(u32, u64), String> {
        let kind = self.u32()?;
        if kind == Self::LIST {
            return Err("an array of arrays".to_owned());
        }
        Ok((kind, self.u64()?))
    }

    fn list(&mut self) -> Result<Option<Value>, String> {
        let (kind, count) = self.list_head()?;
        if count > LONGEST_ARRAY {
            return self.skip_values(kind, count).map(|()| None);
        }
        let mut values = Vec::new();
        for _ in 0..count {
            values.extend(self.value(kind)?);
        }
        Ok(Some(Value::Array(values)))
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, kind: u32) -> Result<(), String> {
        if kind == Self::LIST {
            let (kind, count) = self.list_head()?;
            return self.skip_values(kind, count);
        }
        self.skip_values(kind, 1)
    }

    fn skip_values(&mut self, kind: u32, count: u64) -> Result<(), String> {
        let size = match kind {
            Self::STRING => {
                for _ in 0..count {
                    self.take_string()?;
                }
                return Ok(());
            }
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4 | 5 | Self::FLOAT => 4,
            10..=12 => 8,
            other => return Err(format!("a value of the unknown kind {other}")),
        };
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        self.take(bytes.ok_or("an array that is too long")?).map(drop)
    }
}

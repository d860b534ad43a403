//! Reader for Python pickles of plain data, such as CIFAR's batches: dictionaries, lists, numbers, strings and NumPy
//! arrays.
//!
//! A pickle is a program; this reader executes none of it. Globals stay names, calls stay unevaluated objects, and long
//! strings stay ranges of the file, so the pixels of a batch are located without copying.

use std::collections::HashMap;
use std::ops::Range;

use crate::sources::formats::Cursor;

/// A value; other values are referenced by index.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    None,
    Integer(i64),
    /// A byte or character string, as a range of the file.
    Text(Range<usize>),
    Sequence(Vec<usize>),
    Dictionary(Vec<(usize, usize)>),
    /// A name, or a number that is not needed.
    Opaque,
    /// The unevaluated result of a call, and its intended state.
    Object {
        state: Option<usize>,
    },
}

/// A parsed pickle, not executed.
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    root: usize,
}

impl<'a> Pickle<'a> {
    /// Parses a pickle of protocol 2 to 5.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine =
            Machine { bytes, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        Ok(Self { bytes, values: machine.values, root })
    }

    /// The value of a key in the outermost dictionary.
    fn entry(&self, key: &str) -> Option<&Value> {
        let Value::Dictionary(pairs) = &self.values[self.root] else { return None };
        let is_key = |place: &usize| match &self.values[*place] {
            Value::Text(range) => &self.bytes[range.clone()] == key.as_bytes(),
            _ => false,
        };
        pairs.iter().find(|(name, _)| is_key(name)).map(|(_, value)| &self.values[*value])
    }

    /// The list of integers stored under a key.
    pub(crate) fn integers(&self, key: &str) -> Option<Vec<i64>> {
        let Value::Sequence(places) = self.entry(key)? else { return None };
        let integer = |place: &usize| match self.values[*place] {
            Value::Integer(value) => Some(value),
            _ => None,
        };
        places.iter().map(integer).collect()
    }

    /// The file range of the values of the NumPy array stored under a key: the longest string of the array's state.
    pub(crate) fn array(&self, key: &str) -> Option<Range<usize>> {
        let Value::Object { state: Some(state) } = self.entry(key)? else { return None };
        let Value::Sequence(parts) = &self.values[*state] else { return None };
        let texts = parts.iter().filter_map(|place| match &self.values[*place] {
            Value::Text(range) => Some(range.clone()),
            _ => None,
        });
        texts.max_by_key(Range::len)
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<usize, String> {
        let cursor = &mut Cursor::new(self.bytes);
        loop {
            let at = cursor.position();
            let [code] = cursor.array()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code, cursor).map_err(|reason| format!("byte {at}: {reason}"))?;
        }
    }

    fn step(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Result<(), String> {
        match code {
            0x80 => drop(cursor.take(1)?),
            0x95 => drop(cursor.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Opaque),
            b'G' => {
                cursor.take(8)?;
                self.push(Value::Opaque);
            }
            b'J' | b'K' | b'M' | 0x8A => self.integer(code, cursor)?,
            b'U' | b'C' | 0x8C => self.text(usize::from(cursor.array::<1>()?[0]), cursor)?,
            b'T' | b'B' | b'X' => self.text(u32::from_le_bytes(cursor.array()?) as usize, cursor)?,
            0x8D | 0x8E => {
                let length = usize::try_from(u64::from_le_bytes(cursor.array()?));
                self.text(length.map_err(|_| "an invalid length")?, cursor)?;
            }
            b'c' => {
                cursor.line()?;
                cursor.line()?;
                self.push(Value::Opaque);
            }
            0x93 => self.replace(2, Value::Opaque)?,
            b'R' | 0x81 => self.replace(2, Value::Object { state: None })?,
            b'b' => self.build()?,
            b'}' => self.push(Value::Dictionary(Vec::new())),
            b']' | b')' => self.push(Value::Sequence(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Sequence(items));
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or(EMPTY)?;
                let items = self.stack.split_off(start);
                self.push(Value::Sequence(items));
            }
            b'a' | b'e' => self.append(code)?,
            b's' | b'u' => self.set_items(code)?,
            b'q' | b'r' | 0x94 => self.remember(code, cursor)?,
            b'h' | b'j' => self.recall(code, cursor)?,
            _ => return Err(format!("the opcode {code:#04x} is not supported")),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<usize, String> {
        self.stack.pop().ok_or_else(|| EMPTY.to_owned())
    }

    fn replace(&mut self, count: usize, value: Value) -> Result<(), String> {
        let start = self.stack.len().checked_sub(count).ok_or(EMPTY)?;
        self.stack.truncate(start);
        self.push(value);
        Ok(())
    }

    fn since_mark(&mut self) -> Result<Vec<usize>, String> {
        let start = self.marks.pop().filter(|start| *start <= self.stack.len());
        Ok(self.stack.split_off(start.ok_or("there is no mark")?))
    }

    fn integer(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let value = match code {
            b'J' => i64::from(i32::from_le_bytes(cursor.array()?)),
            b'K' => i64::from(cursor.array::<1>()?[0]),
            b'M' => i64::from(u16::from_le_bytes(cursor.array()?)),
            _ => {
                let [length] = cursor.array()?;
                cursor.take(usize::from(length))?;
                self.push(Value::Opaque);
                return Ok(());
            }
        };
        self.push(Value::Integer(value));
        Ok(())
    }

    fn text(&mut self, length: usize, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let start = cursor.position();
        cursor.take(length)?;
        self.push(Value::Text(start..start + length));
        Ok(())
    }

    fn build(&mut self) -> Result<(), String> {
        let given = self.pop()?;
        let object = *self.stack.last().ok_or(EMPTY)?;
        if let Value::Object { state } = &mut self.values[object] {
            *state = Some(given);
        }
        Ok(())
    }

    fn append(&mut self, code: u8) -> Result<(), String> {
        let items = if code == b'a' { vec![self.pop()?] } else { self.since_mark()? };
        match self.stack.last().map(|list| &mut self.values[*list]) {
            Some(Value::Sequence(list)) => list.extend(items),
            _ => return Err("there is no list to append to".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, code: u8) -> Result<(), String> {
        let items = if code == b's' {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.since_mark()?
        };
        let (pairs, rest) = items.as_chunks::<2>();
        match self.stack.last().map(|place| &mut self.values[*place]) {
            Some(Value::Dictionary(entries)) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
            }
            _ => return Err("there is no dictionary to fill".into()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let name = match code {
            b'q' => u64::from(cursor.array::<1>()?[0]),
            b'r' => u64::from(u32::from_le_bytes(cursor.array()?)),
            _ => self.memo.len() as u64,
        };
        let value = *self.stack.last().ok_or(EMPTY)?;
        self.memo.insert(name, value);
        Ok(())
    }

    fn recall(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let name = match code {
            b'h' => u64::from(cursor.array::<1>()?[0]),
            _ => u64::from(u32::from_le_bytes(cursor.array()?)),
        };
        let value = *self.memo.get(&name).ok_or_else(|| format!("the memo has no entry {name}"))?;
        self.stack.push(value);
        Ok(())
    }
}

const EMPTY: &str = "the stack is empty";

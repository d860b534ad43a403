//! The structure of an HDF5 file: superblock, symbol table of the root group, and dataset headers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::io::files;
use crate::sources::formats::Cursor;

/// What is done with the key and the address of a leaf.
type Leaf<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<(), String>;

/// Maximum size in bytes of a metadata block: part of an object header, or the entries of a node.
const MAX_BLOCK_BYTES: u64 = 1 << 20;
/// Maximum number of blocks in one object header.
const MAX_BLOCKS: usize = 64;
/// Maximum number of dimensions; our datasets have four.
const MAX_DIMENSIONS: usize = 8;
/// The undefined address.
const NOWHERE: u64 = u64::MAX;

/// An open file.
pub(super) struct Hdf5 {
    file: File,
    length: u64,
}

/// The contents of a dataset header.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) dims: Vec<u64>,
    pub(super) layout: Option<Layout>,
    pub(super) filters: Vec<Filter>,
    /// Whether its values are unsigned bytes.
    is_bytes: bool,
}

/// How the values are stored.
#[derive(Debug)]
pub(super) enum Layout {
    /// In one contiguous block.
    Contiguous { start: u64, length: u64 },
    /// In chunks of these dimensions, listed by a B-tree; without a tree, no chunk was written.
    Chunked { chunk: Vec<u64>, tree: Option<u64> },
}

/// A filter applied to a chunk before it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Deflate,
    /// Groups the first bytes of all values, then the second, and so on; has no effect on single bytes.
    Shuffle,
}

impl Hdf5 {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = files::open(path, u64::MAX).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        Ok(Self { file, length })
    }

    /// Bytes of the file; the caller bounds their number.
    pub(super) fn bytes(&self, start: u64, length: u64) -> Result<Vec<u8>, String> {
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(format!(
                "{length} bytes at {start} are beyond its end at {}; is the file truncated?",
                self.length
            ));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn block(&self, start: u64, length: u64) -> Result<Vec<u8>, String> {
        if length > MAX_BLOCK_BYTES {
            return Err(format!(
                "a block of {length} bytes at {start}; at most {MAX_BLOCK_BYTES} are supported"
            ));
        }
        self.bytes(start, length)
    }

    /// The header of the byte dataset with this name in the root group.
    pub(super) fn dataset(&self, name: &str) -> Result<Header, String> {
        let header = self.header(self.find(name)?)?;
        if !header.is_bytes {
            return Err("its values are not unsigned bytes".into());
        }
        if header.dims.is_empty() {
            return Err("it has no dimensions".into());
        }
        Ok(header)
    }

    /// Address of the header of the object with this name in the root group.
    fn find(&self, name: &str) -> Result<u64, String> {
        let start = self.block(0, 96)?;
        if &start[..8] != b"\x89HDF\r\n\x1a\n" {
            return Err("it is not an HDF5 file".into());
        }
        let (version, sizes, base) = (start[8], [start[13], start[14]], &start[24..32]);
        if version != 0 || sizes != [8, 8] || base != [0; 8] {
            return Err(format!(
                "superblock version {version} with addresses of {} bytes is not supported",
                sizes[0]
            ));
        }
        let mut root = Cursor::new(&start[64..]);
        let root = u64::from_le_bytes(root.array()?);
        let mut table = None;
        self.messages(root, |kind, content| {
            if kind == 0x11 {
                let content = &mut Cursor::new(content);
                table = Some((number(content)?, number(content)?));
            }
            Ok(())
        })?;
        let (tree, heap) =
            table.ok_or("its root group is not a symbol table, which is the only supported form")?;
        let heap = self.heap(heap)?;
        let mut found = None;
        self.leaves(tree, 0, 8, &mut 0, &mut |_, node| {
            for (place, object) in self.symbols(node)? {
                let text = usize::try_from(place).ok().and_then(|place| heap.get(place..));
                let text = text.ok_or_else(|| format!("a name at {place} is beyond the end of its heap"))?;
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                if text == name.as_bytes() {
                    found = Some(object);
                }
            }
            Ok(())
        })?;
        found.ok_or_else(|| "there is no data set with that name".into())
    }

    /// The names of a group.
    fn heap(&self, start: u64) -> Result<Vec<u8>, String> {
        let block = self.block(start, 32)?;
        let cursor = &mut Cursor::new(&block);
        if cursor.take(4)? != b"HEAP" {
            return Err(format!("there is no heap at {start}"));
        }
        cursor.take(4)?;
        let (length, _, data) = (number(cursor)?, number(cursor)?, number(cursor)?);
        self.block(data, length)
    }

    /// The offsets of names and the addresses of headers in a symbol table node.
    fn symbols(&self, start: u64) -> Result<Vec<(u64, u64)>, String> {
        let block = self.block(start, 8)?;
        if !block.starts_with(b"SNOD") {
            return Err(format!("there is no symbol table node at {start}"));
        }
        let count = u64::from(u16::from_le_bytes([block[6], block[7]]));
        let entries = self.block(start + 8, 40 * count)?;
        let entry = |entry: &[u8]| {
            let entry = &mut Cursor::new(entry);
            Ok((number(entry)?, number(entry)?))
        };
        entries.chunks_exact(40).map(entry).collect()
    }

    /// Calls `each` with the key and address of each leaf below a B-tree node of type `kind`. `visited` counts nodes,
    /// so that a tree which contains itself terminates.
    pub(super) fn leaves(
        &self,
        start: u64,
        kind: u8,
        key: usize,
        visited: &mut usize,
        each: Leaf<'_>,
    ) -> Result<(), String> {
        let mut nodes = vec![(start, None)];
        while let Some((start, level_above)) = nodes.pop() {
            *visited += 1;
            if *visited as u64 > self.length / 24 {
                return Err("its B-tree has more nodes than fit in the file".into());
            }
            let block = self.block(start, 24)?;
            if !block.starts_with(b"TREE") || block[4] != kind {
                return Err(format!("there is no B-tree node at {start}"));
            }
            let (level, count) = (block[5], u16::from_le_bytes([block[6], block[7]]));
            if level_above.is_some_and(|above| level >= above) {
                return Err(format!("the B-tree node at {start} is not below its parent"));
            }
            let entries = self.block(start + 24, u64::from(count) * (key as u64 + 8))?;
            for entry in entries.chunks_exact(key + 8) {
                let (key, child) = entry.split_at(key);
                let child = number(&mut Cursor::new(child))?;
                if level == 0 { each(key, child)? } else { nodes.push((child, Some(level))) }
            }
        }
        Ok(())
    }

    /// Calls `each` with the messages of an object header and their types.
    fn messages(
        &self,
        start: u64,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let header = self.block(start, 16)?;
        if header[0] != 1 {
            return Err(format!("object header version {} is not supported", header[0]));
        }
        let size = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let mut blocks = vec![(start + 16, u64::from(size))];
        let mut next = 0;
        while let Some(&(start, length)) = blocks.get(next) {
            next += 1;
            let block = self.block(start, length)?;
            let cursor = &mut Cursor::new(&block);
            while block.len() - cursor.position() >= 8 {
                let kind = u16::from_le_bytes(cursor.array()?);
                let length = usize::from(u16::from_le_bytes(cursor.array()?));
                cursor.take(4)?;
                let content = cursor.take(length)?;
                if kind == 0x10 {
                    let content = &mut Cursor::new(content);
                    blocks.push((number(content)?, number(content)?));
                } else {
                    each(kind, content)?;
                }
            }
            if blocks.len() > MAX_BLOCKS {
                return Err(format!("an object header has more than {MAX_BLOCKS} blocks"));
            }
        }
        Ok(())
    }

    fn header(&self, start: u64) -> Result<Header, String> {
        let mut header = Header::default();
        self.messages(start, |kind, content| {
            let content = &mut Cursor::new(content);
            match kind {
                0x1 => header.dims = dimensions(content)?,
                0x3 => header.is_bytes = is_bytes(content)?,
                0x8 => header.layout = Some(layout(content)?),
                0xB => header.filters = filters(content)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(header)
    }
}

/// The next eight bytes.
fn number(cursor: &mut Cursor<'_>) -> Result<u64, String> {
    cursor.array().map(u64::from_le_bytes)
}

fn dimensions(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, String> {
    let [version, count] = cursor.array()?;
    let skipped = match version {
        1 => 6,
        2 => 2,
        _ => return Err(format!("dataspace version {version} is not supported")),
    };
    cursor.take(skipped)?;
    if usize::from(count) > MAX_DIMENSIONS {
        return Err(format!("it claims {count} dimensions"));
    }
    (0..count).map(|_| number(cursor)).collect()
}

/// Whether the type is a one-byte unsigned integer.
fn is_bytes(cursor: &mut Cursor<'_>) -> Result<bool, String> {
    let [class, flags, _, _] = cursor.array()?;
    let size = u32::from_le_bytes(cursor.array()?);
    Ok(class & 0xF == 0 && flags & 8 == 0 && size == 1)
}

fn layout(cursor: &mut Cursor<'_>) -> Result<Layout, String> {
    match cursor.array()? {
        [3, 1] => Ok(Layout::Contiguous { start: number(cursor)?, length: number(cursor)? }),
        [3, 2] => {
            // The last size is the size of a value.
            let [count] = cursor.array()?;
            let tree = Some(number(cursor)?).filter(|tree| *tree != NOWHERE);
            let sizes = 1..usize::from(count);
            if sizes.len() > MAX_DIMENSIONS {
                return Err(format!("its chunks claim {} dimensions", sizes.len()));
            }
            let chunk = sizes.map(|_| cursor.array().map(|size| u64::from(u32::from_le_bytes(size))));
            Ok(Layout::Chunked { chunk: chunk.collect::<Result<_, _>>()?, tree })
        }
        [version, class] => Err(format!("layout version {version}, class {class} is not supported")),
    }
}

fn filters(cursor: &mut Cursor<'_>) -> Result<Vec<Filter>, String> {
    let [version, count] = cursor.array()?;
    if version != 1 {
        return Err(format!("filter pipeline version {version} is not supported"));
    }
    cursor.take(6)?;
    let mut filters = Vec::new();
    for _ in 0..count {
        let [kind, name, _, values] = [(); 4].map(|()| cursor.array().map(u16::from_le_bytes));
        let (kind, name, values) = (kind?, usize::from(name?), usize::from(values?));
        cursor.take(name.next_multiple_of(8) + 4 * values.next_multiple_of(2))?;
        filters.push(match kind {
            1 => Filter::Deflate,
            2 => Filter::Shuffle,
            _ => return Err(format!("its chunks use filter {kind}, which is not supported")),
        });
    }
    Ok(filters)
}

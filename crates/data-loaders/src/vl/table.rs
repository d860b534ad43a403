//! MMBench's table: tab-separated, one question per row, with the image as base64 or as the index of another row.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::vl::benchmark::inside;
use crate::vl::conversation::Origin;
use crate::vl::judge::{Key, option_letter};
use crate::vl::question::Question;

/// Minimum length of a base64 image; a shorter cell is the index of the row that contains it.
const MIN_IMAGE_LENGTH: usize = 64;

type Row = HashMap<String, String>;

pub(super) fn mmbench(set: &str, file: &Path) -> Result<Vec<Question>, DataError> {
    let fault = |reason: String| DataError::BadFile { set: set.into(), path: file.into(), reason };
    let opened = files::open(file, MAX_LIST_BYTES).map_err(|error| fault(error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_reader(opened);
    let rows = reader.deserialize().collect::<Result<Vec<Row>, _>>();
    let rows = rows.map_err(|error| fault(error.to_string()))?;
    let mut images: HashMap<String, Arc<[u8]>> = HashMap::new();
    for (number, row) in rows.iter().enumerate() {
        let origin = Origin::new(set, file, number + 1);
        let (index, cell) = (cell(row, "index", &origin)?, cell(row, "image", &origin)?);
        if cell.len() > MIN_IMAGE_LENGTH {
            let bytes = base64(cell).ok_or_else(|| origin.fault("the image is not base64"))?;
            images.insert(index.to_owned(), bytes.into());
        }
    }
    let question = |(number, row): (usize, &Row)| {
        let origin = Origin::new(set, file, number + 1);
        let index = cell(row, "index", &origin)?;
        let image = cell(row, "image", &origin)?;
        let holder = if image.len() > MIN_IMAGE_LENGTH { index } else { image };
        let bytes = images
            .get(holder)
            .ok_or_else(|| origin.fault(format!("there is no row `{holder}` with the image")))?;
        let optional = |name: &str| row.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let option = |at| optional(&option_letter(at)?.to_string()).map(str::to_owned);
        let choices: Vec<String> = (0..26).map_while(option).collect();
        let key = match optional("answer") {
            None => Key::Withheld,
            Some(letter) => {
                let has_letter =
                    |at: &usize| option_letter(*at).is_some_and(|candidate| letter == candidate.to_string());
                let right = (0..choices.len())
                    .find(has_letter)
                    .ok_or_else(|| origin.fault(format!("there is no option `{letter}`")))?;
                Key::Letter { right, options: choices.len() }
            }
        };
        let (hint, text) = (optional("hint").unwrap_or_default(), cell(row, "question", &origin)?);
        let picture = inside(file, Arc::clone(bytes));
        Ok(Question::choice(index.into(), picture, hint, text, choices, key, origin))
    };
    rows.iter().enumerate().map(question).collect()
}

fn cell<'a>(row: &'a Row, name: &str, origin: &Origin) -> Result<&'a str, DataError> {
    row.get(name).map(|text| text.trim()).ok_or_else(|| origin.fault(format!("there is no column `{name}`")))
}

/// Decodes base64 (RFC 4648, section 4); `None` if a character is invalid.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|byte| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    });
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0);
    for digit in digits {
        buffer = (buffer << 6) | u32::from(digit?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_rfc_4648() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64("+/+/").unwrap(), [0xFB, 0xFF, 0xBF]);
        assert!(base64("Zg!=").is_none());
    }
}

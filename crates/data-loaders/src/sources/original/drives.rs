//! KITTI's division by drive, as in TensorFlow Datasets: all frames of a drive are in one part.
//!
//! A tenth of the drives is test and a tenth val, chosen by NumPy's generator with the seed 123
//! (tensorflow_datasets/object_detection/kitti.py, `_build_splits`). The development kit names the drive of each image.

use std::collections::BTreeMap;

use crate::error::DataError;
use crate::sources::original::Folder;

/// Seed of TensorFlow Datasets.
const SEED: u32 = 123;
/// One drive in this many is test, and one is val.
const SHARE: usize = 10;

/// The part of every image, by its number: 0 for train, 1 for val, 2 for test.
///
/// `mapping/train_rand.txt` has, for every image, a line number of `mapping/train_mapping.txt`, whose lines are
/// `date drive frame`.
pub(super) fn parts_by_drive(folder: &Folder) -> Result<Vec<usize>, DataError> {
    let path = folder.find("mapping/train_mapping.txt")?;
    let frames = folder.rows(&path)?;
    let numbers = folder.find("mapping/train_rand.txt")?;
    let text = folder.bytes(&numbers)?;
    let text = String::from_utf8_lossy(&text);
    let drive = |(image, number): (usize, &str)| {
        let line = number.trim().parse::<usize>().ok().and_then(|line| line.checked_sub(1));
        let row = line.and_then(|line| frames.get(line)).and_then(|(_, row)| row.get(1));
        row.map(String::as_str).ok_or_else(|| {
            let reason =
                format!("number {image}, `{}`, is not that of a frame", number.trim().escape_debug());
            folder.bad_file(&numbers, reason)
        })
    };
    let drives = text.trim().trim_end_matches(',').split(',').enumerate().map(drive);
    let drives = drives.collect::<Result<Vec<_>, _>>()?;
    let mut parts: BTreeMap<&str, usize> = drives.iter().map(|drive| (*drive, 0)).collect();
    let (mut random, count) = (NumpyRandom::new(SEED), (parts.len() / SHARE).max(1));
    for part in [2, 1] {
        // The second choice is among the drives that are left. Both are from names in alphabetical order.
        let names: Vec<&str> = parts.iter().filter(|(_, part)| **part == 0).map(|(name, _)| *name).collect();
        for place in random.permutation(names.len()).into_iter().take(count) {
            parts.insert(names[place], part);
        }
    }
    Ok(drives.iter().map(|drive| parts[drive]).collect())
}

/// NumPy's legacy generator: MT19937 (Matsumoto and Nishimura 1998), and the shuffle of `numpy.random.RandomState`.
struct NumpyRandom {
    state: [u32; 624],
    position: usize,
}

impl NumpyRandom {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for index in 1..state.len() {
            let last = state[index - 1];
            state[index] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(index as u32);
        }
        Self { state, position: state.len() }
    }

    fn next(&mut self) -> u32 {
        let count = self.state.len();
        if self.position == count {
            for index in 0..count {
                let bits =
                    (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % count] & 0x7FFF_FFFF);
                let odd = if bits & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.state[index] = self.state[(index + 397) % count] ^ (bits >> 1) ^ odd;
            }
            self.position = 0;
        }
        let mut value = self.state[self.position];
        self.position += 1;
        value ^= value >> 11;
        value ^= (value << 7) & 0x9D2C_5680;
        value ^= (value << 15) & 0xEFC6_0000;
        value ^ (value >> 18)
    }

    /// A number up to and including `most`: random bits until they are small enough.
    fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// `numpy.random.permutation(count)`; its first n are `numpy.random.choice(count, n, replace=False)`.
    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..count).collect();
        for index in (1..count).rev() {
            places.swap(index, self.up_to(index as u32) as usize);
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_those_of_numpy() {
        // np.random.seed(123); np.random.choice(141, 14, replace=False); np.random.choice(127, 14, replace=False)
        let mut random = NumpyRandom::new(123);
        assert_eq!(
            random.permutation(141)[..14],
            [104, 129, 112, 45, 31, 79, 74, 35, 4, 127, 63, 120, 0, 140]
        );
        assert_eq!(random.permutation(127)[..14], [30, 101, 91, 100, 22, 12, 49, 89, 24, 42, 43, 16, 93, 29]);
    }
}

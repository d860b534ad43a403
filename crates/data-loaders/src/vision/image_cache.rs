//! The decoded and resized images of a dataset, cached within a budget.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::split::Part;
use crate::transform::protocol::{Filter, ImageProtocol, Resize};

/// Maximum number of bytes of decoded and resized images cached per dataset.
const CACHE_BYTES: usize = 1 << 30;

/// The resized images of one part, each cached on first use.
pub(super) type CachedImages = Arc<[OnceLock<Vec<u8>>]>;

/// The cached images, by the parameters that determine their bytes.
#[derive(Default)]
pub(super) struct ImageCache(Mutex<HashMap<(Part, u32, Resize, Filter), CachedImages>>);

impl ImageCache {
    /// The cache slots for the resized bytes of a part; `None` if they would exceed the budget. `part_len` is the number
    /// of images in a part.
    pub(super) fn slots(
        &self,
        part: Part,
        protocol: &ImageProtocol,
        part_len: impl Fn(Part) -> usize,
    ) -> Option<CachedImages> {
        let key = (part, protocol.image_size, protocol.resize, protocol.filter);
        // An entry is complete when it is inserted, so a panic elsewhere leaves the cache valid.
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cache.get(&key) {
            return Some(Arc::clone(cached));
        }
        let bytes = |(part, image_size): (Part, u32)| part_len(part) * sample_bytes(image_size);
        let used: usize = cache.keys().map(|(part, image_size, ..)| bytes((*part, *image_size))).sum();
        if used + bytes((part, protocol.image_size)) > CACHE_BYTES {
            return None;
        }
        let cached: CachedImages = (0..part_len(part)).map(|_| OnceLock::new()).collect();
        cache.insert(key, Arc::clone(&cached));
        Some(cached)
    }
}

/// Number of values (and bytes) of one input image.
pub(super) fn sample_bytes(image_size: u32) -> usize {
    3 * image_size as usize * image_size as usize
}

//! What a group of runs costs: its arithmetic from the sizes of model, method and data, and the time of that on a device.
//!
//! One rule serves every method on every backbone (`model`). `device` turns work into seconds by what is known of a device,
//! and `calibration` corrects that by what was measured on this one.

pub mod calibration;
pub mod device;
pub mod estimate;
pub mod model;
pub mod work;

//! Descriptions of models and methods before any tensor is allocated: sites with their roles, wirings, and what
//! a method would train. Planning needs nothing else.

pub mod effects;
pub mod init;
pub mod model;
pub mod trainable;
pub mod wiring;

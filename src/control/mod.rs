//! To be written.

pub mod camera;

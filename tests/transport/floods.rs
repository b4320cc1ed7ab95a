//! Floods from addresses that ICE did not prove.

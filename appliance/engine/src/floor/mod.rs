//! People on the ground plane: camera geometry, and tracks fused from what all cameras see.

pub mod camera;

//! Whole days through the box.

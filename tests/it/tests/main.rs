//! The integration tests: repository rules, the bus through a real broker, whole days through the box.

mod bus;
mod day;
mod tidy;

//! The integration tests: repository rules, the bus through a real broker, whole days through the box.

mod bus;
mod corpus;
mod day;
mod tidy;
mod units;
mod yocto;

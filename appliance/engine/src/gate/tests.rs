//! Tables for the gate, and its safety rules checked over every short sequence of inputs, over long random
//! ones, and against gates that are broken on purpose.

mod exhaustive;
mod floor;
mod modes;
mod mutants;
mod oracle;
mod tables;
mod walks;

//! cartd from outside: its ledger, its death, its loop, its command line.

mod cli;
mod fixture;
mod kill;
mod ledger;
mod service;

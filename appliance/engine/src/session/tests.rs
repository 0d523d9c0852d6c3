//! Behaviours of the store, as tables and properties.

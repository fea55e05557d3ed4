//! The admin plane: statistics, configuration and threads for operators.

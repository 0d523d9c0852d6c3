# A line that nobody holds any more becomes an input, as on every other board: what a dead gate drove,
# falls. The boot partitions of a slot carry image/reference/config.txt; this is for whoever builds another
# image for the board.
RPI_EXTRA_CONFIG:append:stile = " \ndtparam=strict_gpiod\ndtparam=watchdog=on\n"

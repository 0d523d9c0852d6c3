SUMMARY = "Carts of a Stile store"
DESCRIPTION = "Weighs the shelves, keeps every shopper's cart in its ledger and settles it when they leave."

inherit stile-service

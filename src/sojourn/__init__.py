"""Sessions and seats for the web.

The public surface is small: `sojourn.client.Client` takes and keeps seats, `sojourn.stores.open_store`
opens a store, `sojourn.testing` holds any store to the contract. Importing `sojourn` loads no driver.
"""

__version__ = "0.1.0"

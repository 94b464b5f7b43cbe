"""Take seats and keep them: `Client(url, license_key=…).seat(feature, user=…)`.

And, for receivers of webhooks: `verify_webhook(headers, body, secrets)`.
"""

from sojourn.client.client import Client as Client
from sojourn.client.errors import ClientClosed as ClientClosed
from sojourn.client.errors import Holder as Holder
from sojourn.client.errors import SeatDenied as SeatDenied
from sojourn.client.errors import SeatLost as SeatLost
from sojourn.client.errors import ServerUnreachable as ServerUnreachable
from sojourn.client.hold import SeatState as SeatState
from sojourn.client.identity import default_client_id as default_client_id
from sojourn.client.seat import Change as Change
from sojourn.client.seat import Seat as Seat
from sojourn.client.seat import Waiting as Waiting
from sojourn.webhook_signature import WebhookMessage as WebhookMessage
from sojourn.webhook_signature import WebhookRefused as WebhookRefused
from sojourn.webhook_signature import verify_webhook as verify_webhook

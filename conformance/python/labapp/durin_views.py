"""Views of a host that uses durin's permissions and throttle."""

from durin.permissions import AllowSpecificClients, DisallowSpecificClients
from durin.throttling import UserClientRateThrottle
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response

from labapp.me import Me


class WebAlone(AllowSpecificClients):
    """Tokens of the client `web`."""

    allowed_clients_name = ("web",)


class AllButCli(DisallowSpecificClients):
    """Tokens of any client but `cli`."""

    disallowed_clients_name = ("cli",)


class OnlyWeb(Me):
    permission_classes = [IsAuthenticated, WebAlone]


class OnlyWebBare(Me):
    permission_classes = [WebAlone]


class NotCli(Me):
    permission_classes = [IsAuthenticated, AllButCli]


class NotCliBare(Me):
    permission_classes = [AllButCli]


class Throttled(Me):
    throttle_classes = [UserClientRateThrottle]


class ThrottledOpen(Me):
    permission_classes = [AllowAny]
    throttle_classes = [UserClientRateThrottle]

    def get(self, request):
        return Response({"ok": True})

    post = get

"""Serializers that settings name."""

from django.contrib.auth import get_user_model
from rest_framework import serializers


class OwnUserSerializer(serializers.ModelSerializer):
    """What django-rest-authtoken's README shows of a user after a login."""

    class Meta:
        model = get_user_model()
        fields = ["id", "username"]

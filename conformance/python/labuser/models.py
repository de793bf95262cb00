"""The user model of django-rest-authtoken's confirmation profiles."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Django's user with the column that the package sets when a link is followed."""

    email_confirmed = models.BooleanField(default=False)

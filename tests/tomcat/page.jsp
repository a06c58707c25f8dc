<%@ page contentType="application/json" %>{"backend":"<%= System.getProperty("instance") %>","known":true,"count":null}
